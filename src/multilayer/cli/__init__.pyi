from .check import check_command_line as check_command_line
from .exit_codes import exit_code_of as exit_code_of
from .in_python import compose as compose
from .tasks import train as train
