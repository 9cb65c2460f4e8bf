"""Lists of CPU cores, as settings and taskset write them."""


def parse_cores(text: str) -> list[int]:
    """Parse `0,2-3` into [0, 2, 3]; an empty text gives []. Raises ValueError for anything else."""
    cores: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        cores.extend(range(int(first), int(last or first) + 1))
    return cores
