import torch

from sketchbench.measure import cpu_allocator


def test_installing_again_returns_the_same_counters(counters):
    tensor = torch.empty(10)
    before = counters.current()
    assert cpu_allocator.install() is counters
    assert counters.current() == before
    del tensor


def test_blocks_from_before_do_not_count_when_freed(alone):
    said = alone(
        "old, resized = torch.empty(1000), torch.empty(10)\n"
        "counters = install()\n"
        "print(counters.current())\n"
        "old.add_(1); del old\n"
        "resized.untyped_storage().resize_(4000)\n"  # it stays with the allocator that it had
        "print(counters.current())\n"
        "new = torch.empty(8); print(counters.current())\n"
    )
    assert said == ["0", "0", "32"]


def test_forked_children_count_for_themselves(alone):
    said = alone(
        "counters = install()\n"
        "inherited = torch.empty(1000)\n"
        "child = os.fork()\n"
        "mine = torch.empty(2000 if child == 0 else 500)\n"
        "if child == 0:\n"
        "    del inherited\n"
        "    os._exit(0 if (counters.current(), counters.peak()) == (8000, 12000) else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "print(counters.current(), counters.peak())\n"
    )
    assert said == ["0", "6000", "6000"]


def test_a_child_forked_while_another_thread_allocates_is_not_stuck(alone):
    said = alone(
        "import signal, threading\n"
        "install()\n"
        "stop = threading.Event()\n"
        "def work():\n"
        "    while not stop.is_set(): torch.empty(100)\n"
        "workers = [threading.Thread(target=work) for _ in range(3)]\n"
        "for worker in workers: worker.start()\n"
        "for _ in range(30):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        signal.alarm(20)\n"
        "        torch.empty(100); os._exit(0)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "stop.set()\n"
    )
    assert said == ["0"] * 30


def test_workers_of_a_data_loader_hand_their_batches_over(alone):
    said = alone(
        "from torch.utils.data import DataLoader, TensorDataset\n"
        "counters = install()\n"
        "data = TensorDataset(torch.arange(10.))\n"
        "loader = DataLoader(data, 5, num_workers=2, multiprocessing_context='fork')\n"
        "print(sum(batch.sum().item() for (batch,) in loader))\n"
    )
    assert said == ["45.0"]
