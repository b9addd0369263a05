"""``python -m operators.crds`` writes the definitions into the chart."""

from operators.crds.manifests import write_all

if __name__ == "__main__":
    for path in write_all():
        print(path)
