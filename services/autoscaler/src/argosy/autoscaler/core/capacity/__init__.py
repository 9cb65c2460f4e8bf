"""What a fleet can do: step times, queues, TTFT and TPOT in closed form."""
