import sys

from runsadmin.sandbox.command_line import main

if __name__ == "__main__":
    sys.exit(main())
