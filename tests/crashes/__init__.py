"""What a power cut may leave of a collector's folder, enumerated and recovered from.

states.py says which states there are; store_life.py and folder_life.py are what a collector does to its folder, with
the promises that hold at each point. disk_faults.py and full_disk.py are about disks that fail or are full, rot.py
about bits that are wrong, failpoints.py about processes that are killed. The campaigns of these names run them all.
"""
