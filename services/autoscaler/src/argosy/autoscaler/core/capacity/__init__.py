"""What a fleet can do: pass times, queues, TTFT and TPOT in closed form."""
