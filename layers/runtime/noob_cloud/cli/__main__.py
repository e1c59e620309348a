"""`python -m noob_cloud.cli` is the `noob-cloud` command."""

from noob_cloud.cli import main

if __name__ == "__main__":
    main()
