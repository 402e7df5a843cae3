// Counts the bytes requested from c10's CPU allocator, for the whole process.
//
// Every block keeps the address, the context and the alignment that it would have had, so that
// code which looks inside a DataPtr (copy-on-write, oneDNN, raw_allocate) can't tell the
// difference; only its deleter is ours. One lock guards table and counters: current and peak
// always belong together, and a fork can wait for it.

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <pthread.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <unordered_map>

namespace {

struct Counts {
  std::mutex lock;
  std::unordered_map<void*, int64_t> live;  // bytes requested, by address
  int64_t current = 0;
  int64_t peak = 0;

  void add(void* data, int64_t size) {
    const std::lock_guard<std::mutex> guard(lock);
    // An address that is still there was freed behind our back, by its first owner's deleter.
    auto [block, fresh] = live.try_emplace(data, size);
    if (!fresh) {
      current -= block->second;
      block->second = size;
    }
    current += size;
    peak = std::max(peak, current);
  }

  void remove(void* data) {
    const std::lock_guard<std::mutex> guard(lock);
    const auto block = live.find(data);
    if (block == live.end()) return;  // allocated before we were here
    current -= block->second;
    live.erase(block);
  }
};

// Never destroyed: tensors outlive static objects when a process ends.
Counts& counts() {
  static Counts* const all = new Counts;
  return *all;
}

c10::Allocator* inner = nullptr;
c10::DeleterFnPtr inner_delete = nullptr;

// The entry goes first: once the block is free, another thread may be given the same address.
void counted_delete(void* data) {
  if (data != nullptr) counts().remove(data);
  inner_delete(data);
}

struct CountingAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    c10::DataPtr block = inner->allocate(size);
    if (!block) return block;
    TORCH_CHECK(
        block.get() == block.get_context() &&
            block.compare_exchange_deleter(inner_delete, &counted_delete),
        "the CPU allocator's blocks are not freed by its own deleter");
    counts().add(block.get(), static_cast<int64_t>(size));
    return block;
  }

  c10::DeleterFnPtr raw_deleter() const override { return &counted_delete; }

  void copy_data(void* to, const void* from, std::size_t size) const override {
    inner->copy_data(to, from, size);
  }
};

}  // namespace

extern "C" {

// Returns 0, or 1 where the allocator in place says not how its blocks are freed, or 2 where it
// can't be replaced. Callers take turns; a second call changes nothing.
int counting_install() {
  if (inner != nullptr) return 0;
  c10::Allocator* const found = c10::GetCPUAllocator();
  inner_delete = found->raw_deleter();
  if (inner_delete == nullptr) return 1;
  inner = found;
  auto* const ours = new CountingAllocator;
  c10::SetCPUAllocator(ours, 255);
  if (c10::GetCPUAllocator() != ours) {
    inner = nullptr;
    delete ours;
    return 2;
  }
  // A child must not inherit the lock from a thread that it doesn't have.
  pthread_atfork(
      [] { counts().lock.lock(); },
      [] { counts().lock.unlock(); },
      [] { counts().lock.unlock(); });
  return 0;
}

int64_t counting_current() {
  const std::lock_guard<std::mutex> guard(counts().lock);
  return counts().current;
}

int64_t counting_peak() {
  const std::lock_guard<std::mutex> guard(counts().lock);
  return counts().peak;
}

void counting_reset_peak() {
  const std::lock_guard<std::mutex> guard(counts().lock);
  counts().peak = counts().current;
}
}
