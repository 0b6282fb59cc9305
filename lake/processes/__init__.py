"""Child processes: started, logged, locked and supervised."""
