from .identity import identity as identity
from .job import Job as Job
from .job import Outcome as Outcome
from .ledger import Ledger as Ledger
from .ledger import NewJob as NewJob
from .worker import Worker as Worker
