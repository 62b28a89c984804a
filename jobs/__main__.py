"""Lists the jobs: `python -m jobs`."""

import importlib

from jobs import command


def main() -> None:
    """Print each job's name and first line, in the order in which a collection meets them."""
    print("python -m jobs.NAME --help, where NAME is one of\n")
    for name in command.ORDER:
        first = (importlib.import_module(f"jobs.{name}").__doc__ or "").splitlines()[0]
        print(f"  {name:20} {first}")


if __name__ == "__main__":
    main()
