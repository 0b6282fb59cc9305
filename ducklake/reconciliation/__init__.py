"""The lake compared with its sources: what change data capture did not see is found here."""
