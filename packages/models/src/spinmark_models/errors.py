"""The one exception that bad input raises."""


class InputError(ValueError):
    """Input that cannot be used, explained in one line.

    The message names the file or field, the value that was found and what is accepted. The command
    prints it without a traceback; any other exception is a defect of spinmark.
    """
