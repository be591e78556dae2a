"""The manager's dict."""

from harness import clocked, row, steady


@row("Manager().dict, one set and one get")
def dict_set_get(mp, context):
    def loop(n):
        for i in range(n):
            shared["key"] = i
            shared["key"]

    with context.Manager() as manager:
        shared = manager.dict()
        return steady(clocked(loop))
