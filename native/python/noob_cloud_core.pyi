"""The Rust core of noob-cloud: used by the package `noob_cloud` where it is installed."""

__version__: str
INTERFACE: int
