"""`recfound export`: one task of a run in the format of another library."""

from __future__ import annotations

from recbole_recfound.cli.words import Words, load

ABOUT = "Write one task of a run for PEFT, any server of Hugging Face models, sentence-transformers or onnxruntime."
FORMS = "peft, merged, sentence-transformers, index or onnx"


def command(argv: list[str]) -> int:
    """Write a folder, and upload it if a name on the hub is given.

    Args:
        argv: the words after the verb.

    Returns:
        0.

    Raises:
        ConfigError: no such run, task or format, or a missing package.
        DataError: files are missing or damaged.
    """
    words = Words("export", ABOUT)
    words.add_argument("--task", default="U2I", help="a task of the run (default: U2I)")
    words.add_argument("--format", required=True, help=FORMS)
    words.add_argument("--out", required=True, help="folder to write; it must not exist")
    words.add_argument("--push_to_hub", metavar="USER/NAME", help="upload the folder to the Hugging Face hub")
    words.add_loading()
    given = words.parse_args(argv)
    from recbole_recfound.serving.export import push

    out = load(given).export(given.task, given.format, given.out)
    print(f"{out}: {given.task} as {given.format}; {out / 'README.md'} says how to load it")
    if given.push_to_hub:
        print(push(out, given.push_to_hub))
    return 0
