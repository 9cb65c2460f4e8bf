"""Lists of CPU cores, as settings write them."""


def parse_cores(text: str) -> list[int]:
    """`0,2-3` -> [0, 2, 3]; nothing for nothing. Raises ValueError for anything else."""
    cores: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        cores.extend(range(int(first), int(last or first) + 1))
    return cores
