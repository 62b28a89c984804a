"""The command-line jobs, one module each: `python -m jobs.NAME --help`."""
