"""Every fault that was seen once is held by a test, which docs/robustness.md names."""

import ast
import re

from helpers.tool_runs import ROOT

TABLE = ROOT / 'docs/robustness.md'
NAMED = re.compile(r'`(tests/[\w/]+\.py)::(\w+)`')


def test_the_tests_that_hold_the_faults_exist():
    named = NAMED.findall(TABLE.read_text())
    assert len(named) > 50
    for file, function in named:
        tree = ast.parse((ROOT / file).read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert function in functions, f'{file} has no {function}'


def test_every_row_names_a_test():
    rows = [line for line in TABLE.read_text().splitlines() if line.startswith('| ')]
    start = next(i for i, row in enumerate(rows) if row.startswith('| fault |'))
    faults = [row for row in rows[start:] if not row.startswith(('| fault |', '| --- |'))]
    assert len(faults) > 35
    for row in faults:
        assert NAMED.search(row), row
