"""The commands of `onetok`, by what they are about. Each module adds its own to the command line with `add`.

A command is a function from its arguments to the exit status. What it needs beyond params and receipts it imports
itself, so that `onetok --help` and a command that only reads take no seconds to start.
"""
