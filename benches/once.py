"""once.py PACKAGE ROW: one measurement of one row in this fresh process; prints the reading as JSON.

`rival:NAME` in the package's place measures one of the `rivals`.
"""


def main():
    # Imported here because a spawned child imports this file too, and must not pay for the harness.
    import importlib
    import json
    import sys

    package, name = sys.argv[1:]
    importlib.import_module(f"rows.{name.partition('.')[0]}")
    import harness

    row = harness.ROWS[name]
    if package.startswith("rival:"):
        import rivals

        reading = row.measure(None, rivals.contexts(package.removeprefix("rival:"))[name]())
    else:
        mp = importlib.import_module(package)
        reading = row.measure(mp, mp.get_context(row.start_method))
    print(json.dumps(reading._asdict()))


if __name__ == "__main__":
    main()
