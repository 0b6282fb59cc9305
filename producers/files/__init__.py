"""Files that others drop into a folder, wherever the folder is: what all such sources share.

`connector` polls, `matching` finds the files, `quiet` tells when one is complete, `spool` fetches
it, `reading` is the border to the readers: whatever one of them raises costs its file alone.
"""
