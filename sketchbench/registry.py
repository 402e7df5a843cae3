"""The registry: every recipe class by kind and name, and which plugins are in quarantine."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Self

import pluggy

from sketchbench import discovery, fitness, hookspecs
from sketchbench.discovery import Found
from sketchbench.kinds import (
    KINDS,
    ActivationSketch,
    CovarianceSketch,
    GradientSketch,
    Model,
    Monitor,
    Optimizer,
    Task,
    Workload,
)
from sketchbench.metric import Metric
from sketchbench.recipe import Recipe, UnknownName, suggest

BUILTIN = "sketchbench.builtin"  # loaded by name: the core never imports a plugin
FAMILIES: Mapping[str, tuple[type[Recipe], ...]] = {
    "register_sketches": (ActivationSketch, CovarianceSketch, GradientSketch),
    "register_monitors": (Monitor,),
    "register_optimizers": (Optimizer,),
    "register_models": (Model,),
    "register_tasks": (Task,),
    "register_metrics": (Metric,),
    "register_workloads": (Workload,),
}


class Registry:
    """Recipe classes of all sound plugins; a plugin that breaks a rule is left out whole.

    `Registry.load()` gathers built-in and installed plugins; tests `add` modules or objects.
    """

    def __init__(self) -> None:
        self.manager = _manager()
        self.classes: dict[str, dict[str, type[Recipe]]] = {kind: {} for kind in KINDS}
        self.origin: dict[type[Recipe], str] = {}
        self.plugins: dict[str, Found | None] = {}
        self.quarantined: dict[str, str] = {}

    @classmethod
    def load(cls, known_bad: Mapping[str, str] | None = None) -> Self:
        """Load the built-in recipes and every installed entry point, one by one.

        Each is first imported in a probe child, unless `known_bad` already says which to leave
        out and why (what an earlier `load` quarantined).
        """
        registry = cls()
        registry.add("builtin", importlib.import_module(BUILTIN))
        found = discovery.entry_points()
        clashing = _clashing(found)
        alone = [plugin for plugin in found if plugin.name not in clashing]
        bad = clashing | dict(discovery.probe(alone, _vetted) if known_bad is None else known_bad)
        for plugin in alone:
            if plugin.name not in bad:
                registry._load(plugin)
        registry.quarantined |= bad
        return registry

    def _load(self, plugin: Found) -> None:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                loaded = plugin.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # an import may raise anything
            self.quarantined[plugin.name] = discovery.raised(error)
            return
        self.add(plugin.name, loaded, plugin)

    def add(self, name: str, plugin: object, found: Found | None = None) -> None:
        """Register all recipes of a plugin, or put it into quarantine with the reason."""
        try:
            recipes = _vetted(name, plugin)
            for recipe in recipes:
                self._refuse_clash(recipe)
            self.manager.register(plugin, name)
        except (fitness.Unfit, pluggy.PluginValidationError, ValueError) as error:
            self.quarantined[name] = " ".join(str(error).split())
            return
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # its own hook raised
            self.quarantined[name] = discovery.raised(error)
            return
        self.plugins[name] = found
        for recipe in recipes:
            self.classes[recipe.kind][recipe.name] = recipe
            self.origin[recipe] = name

    def lookup(self, kind: str, name: str) -> type[Recipe]:
        """Return the class of `kind` called `name`; raise `UnknownName` with what is known."""
        if kind not in self.classes:
            raise UnknownName(f"no kind is called '{kind}'; {suggest(kind, self.classes)}")
        known = self.classes[kind]
        if name not in known:
            raise UnknownName(f"no {kind} is called '{name}'; {suggest(name, known)}{self._hint()}")
        return known[name]

    def stored(self, record: Any) -> list[str]:
        """Tell every plugin that a record is stored; return what went wrong in them."""
        problems = []
        for hook in self.manager.hook.record_stored.get_hookimpls():
            try:
                hook.function(*([record] if hook.argnames else []))
            except (Exception, SystemExit) as error:
                problems.append(f"{hook.plugin_name}: record_stored: {discovery.raised(error)}")
        return problems

    def _refuse_clash(self, recipe: type[Recipe]) -> None:
        other = self.classes[recipe.kind].get(recipe.name)
        if other is not None:
            raise fitness.Unfit(
                f"{recipe.kind} '{recipe.name}' is already registered by {self.origin[other]}"
            )

    def _hint(self) -> str:
        if not self.quarantined:
            return ""
        return f"; in quarantine: {', '.join(sorted(self.quarantined))} (see `sketchbench plugins`)"


def _clashing(found: Sequence[Found]) -> dict[str, str]:
    """Return the reason for each name that two distributions claim: neither is taken."""
    owners: dict[str, list[str]] = {}
    for plugin in found:
        owners.setdefault(plugin.name, []).append(plugin.distribution or plugin.target)
    return {
        name: f"{' and '.join(claims)} both have a plugin of this name; uninstall one"
        for name, claims in owners.items()
        if len(claims) > 1
    }


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("sketchbench")
    manager.add_hookspecs(hookspecs)
    return manager


def _vetted(name: str, plugin: object) -> list[type[Recipe]]:
    """Return a plugin's recipes; raise if it has an unknown hook or an unfit class."""
    alone = _manager()  # a manager of its own: a refusal leaves the real one as it was
    alone.register(plugin, name)
    alone.check_pending()
    recipes: list[type[Recipe]] = []
    for hook, families in FAMILIES.items():
        for implementation in getattr(alone.hook, hook).get_hookimpls():
            for recipe in implementation.function():
                fit = fitness.check(recipe, families)
                if any(r.kind == fit.kind and r.name == fit.name for r in recipes):
                    raise fitness.Unfit(f"{fit.kind} '{fit.name}' is registered twice")
                recipes.append(fit)
    return recipes
