"""What pyproject.toml cannot say: packages are found, prototxts and tables of the checkout go into the package."""

from pathlib import Path
from runpy import run_path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
NETWORKS = sorted(path.name for path in (ROOT / "models").iterdir() if path.is_dir())
OURS = ("audiomnist", "caffe", "caffe_proto", "lrp")
# folders without code that `audiomnist.places` looks for: inside the installed package, beside it in a checkout
DATA = {"audiomnist.data": "data", "audiomnist.models": "models"}
DATA |= {f"audiomnist.models.{network}": f"models/{network}" for network in NETWORKS}


class BuildWithCommit(build_py):
    """Puts the commit into the built package, which has no repository to ask."""

    def run(self):
        super().run()
        if not self.editable_mode:
            commit = run_path(str(ROOT / "audiomnist" / "provenance.py"))["commit"]()
            Path(self.build_lib, "audiomnist", "COMMIT").write_text(f"{commit}\n")


setup(
    packages=[*find_packages(include=[name for ours in OURS for name in (ours, f"{ours}.*")]), *DATA],
    package_dir=DATA,
    package_data={
        "audiomnist.data": ["*.json"],
        "audiomnist.explain": ["*.html", "*.css", "*.js"],
        "audiomnist.recording": ["*.html", "*.js"],
        "caffe_proto": ["*.proto"],
    }
    | {f"audiomnist.models.{network}": ["*.prototxt", "*.json"] for network in NETWORKS},
    include_package_data=False,
    cmdclass={"build_py": BuildWithCommit},
)
