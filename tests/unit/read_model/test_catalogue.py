"""Names what was forgotten when a projection was added; for its query, see tests/unit/query_api/test_registry.py."""

import pkgutil
from importlib import import_module
from types import ModuleType

import pytest

import projectors.projections
import read_model
from projectors.projections.catalogue import PROJECTIONS
from projectors.projections.projection import Projection
from read_model.catalogue import SCHEMAS
from read_model.schema import ProjectionSchema


def defining(package: ModuleType, kind: type) -> list[str]:
    """The modules of the package that have an instance of that kind."""
    names = [f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    return [name for name in names if any(isinstance(value, kind) for value in vars(import_module(name)).values())]


@pytest.mark.parametrize("module", defining(read_model, ProjectionSchema))
def test_every_declaration_is_in_the_catalogue(module: str) -> None:
    schema = import_module(module).SCHEMA

    assert SCHEMAS.get(schema.name) is schema, f"{module}.SCHEMA is missing in read_model/catalogue.py"


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_declared_projection_is_fed(name: str) -> None:
    assert name in PROJECTIONS, f"no projector writes {name!r}: see projectors/projections/catalogue.py"
    fed, declared = PROJECTIONS[name], SCHEMAS[name]
    assert (fed.shape, fed.schema.channel) == (declared.shape, declared.channel)


@pytest.mark.parametrize("module", defining(projectors.projections, Projection))
def test_every_projector_is_in_their_catalogue(module: str) -> None:
    projection = import_module(module).PROJECTION

    assert PROJECTIONS.get(projection.name) is projection, f"{module} is missing in projectors/projections/catalogue.py"
