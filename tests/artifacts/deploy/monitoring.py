"""Checks objects of the Prometheus operator's kinds as its custom resource definitions have them.

python monitoring.py FILE: every object of monitoring.coreos.com/v1 in a file of Kubernetes objects. The schemas are
those that the models of a package were generated from. A field that they do not have is a fault, and so is one without
a value.
"""

import sys

import yaml
from cloudcoil.models.prometheus_operator import v1
from jsonschema import Draft202012Validator

GROUP = "monitoring.coreos.com/v1"


def strict(schema):
    """The same schema without fields that it does not name, and without null, which the models allow everywhere."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(part) for name, part in schema.items()}
    if "properties" in made and isinstance(made["properties"], dict):
        made.setdefault("additionalProperties", False)
    if "anyOf" in made:
        others = [part for part in made.pop("anyOf") if part != {"type": "null"}]
        # Where there is one alternative, its own fault is reported, not that it is none of them.
        made |= others[0] if len(others) == 1 else {"anyOf": others}
    return made


def faults(built):
    validator = Draft202012Validator(strict(getattr(v1, built["kind"]).model_json_schema()))
    for fault in validator.iter_errors(built):
        yield f"{fault.json_path}: {fault.message}"


wrong = []
with open(sys.argv[1], encoding="utf-8") as file:
    for built in yaml.safe_load_all(file):
        if built["apiVersion"] == GROUP:
            name = f"{built['kind']} {built['metadata']['name']}"
            found = [f"{name}: {fault}" for fault in faults(built)]
            wrong += found
            print(f"{name}: {'refused' if found else 'accepted'}")
sys.exit("\n".join(wrong) or None)
