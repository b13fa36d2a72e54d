"""A study, without torch: its params, what follows from them, the plan of its jobs, and their receipts."""
