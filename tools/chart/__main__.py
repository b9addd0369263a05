"""Write what is made from the chart's values and templates: ``python -m tools.chart [--check]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.chart.annotated import Undescribed, read_values
from tools.chart.images import annotated, images_of, listed
from tools.chart.schema import as_text, schema_of
from tools.chart.table import with_table

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "computility"


def made(chart: Path) -> dict[Path, str]:
    """The files that are made, with the text that each should have. Raises ``Undescribed`` and
    ``ValueError``."""
    root = read_values((chart / "values.yaml").read_text())
    schema = schema_of(root)
    readme, chart_file = chart / "README.md", chart / "Chart.yaml"
    images = images_of(chart)
    return {
        chart / "values.schema.json": as_text(schema),
        readme: with_table(readme.read_text(), root, schema["$defs"]["nodePools"]["items"]),
        chart / "images.txt": listed(images),
        chart_file: annotated(chart_file.read_text(), images),
    }


def stale(chart: Path) -> list[Path]:
    """The made files that differ from what they should be."""
    return [path for path, text in made(chart).items() if not path.exists() or path.read_text() != text]


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 1 where ``--check`` finds stale files."""
    parser = argparse.ArgumentParser(prog="tools.chart", description="Make the chart's schema and tables.")
    parser.add_argument("--check", action="store_true", help="write nothing, name what is stale")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            wrong = stale(CHART)
            for path in wrong:
                print(f"stale: {path.relative_to(CHART)}; run make chart-docs")
            return 1 if wrong else 0
        for path, text in made(CHART).items():
            path.write_text(text)
    except Undescribed as error:
        print(f"error: values.yaml: nothing is said of {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
