"""How many bytes a request pulled, as far as vLLM says.

vLLM reports the bytes of each NIXL transfer with the step in which the transfer ended, and not
whose they are. So they are a request's when no other pull was under way at any time during its
own. Of pulls that overlap the bytes are not known, and each is said to have pulled 0.

A pull that is abandoned may still end in vLLM, unseen and later. What is reported until a pull
that began after it has ended may be its bytes, and is attributed to nobody.
"""


class PulledBytes:
    """See the module. Calls for one request: `begin`, then `take` or `abandon`."""

    def __init__(self) -> None:
        self._alone: dict[str, bool] = {}
        """Pulls under way, and whether none but them was under way with them."""
        self._bytes: dict[str, int] = {}
        self._abandoned = False
        """Whether a pull was abandoned, and none that began after it has ended."""
        self._began_after: set[str] = set()
        """Pulls under way that began after the last one that was abandoned."""

    def begin(self, request_id: str) -> None:
        """The request waits for its KV from now on."""
        for other in self._alone:
            self._alone[other] = False
        self._alone[request_id] = not self._alone and not self._abandoned
        self._bytes[request_id] = 0
        if self._abandoned:
            self._began_after.add(request_id)

    def reported(self, transfers: list[int]) -> None:
        """These transfers have ended, with as many bytes each."""
        for request_id, alone in self._alone.items():
            if alone:
                self._bytes[request_id] += sum(transfers)

    def take(self, request_id: str, *, last: bool = True) -> int:
        """The request has its KV: the bytes it pulled; 0 if not known, or asked before.

        vLLM may report a transfer after the first output that needed it. So nothing is given
        away while nothing is reported, unless this is the request's last output.
        """
        if not last and not self._bytes.get(request_id):
            return 0
        pulled = self._bytes.pop(request_id, 0)
        alone = self._alone.pop(request_id, False)
        if request_id in self._began_after:
            self._began_after.clear()
            self._abandoned = False
        return pulled if alone else 0

    def abandon(self, request_id: str) -> None:
        """The request is over. Harmless when it has its KV already."""
        if request_id in self._alone:
            del self._alone[request_id], self._bytes[request_id]
            self._abandoned = True
            self._began_after.clear()
            for other in self._alone:
                self._alone[other] = False
