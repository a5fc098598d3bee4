"""What a power cut may leave of a collector's folder, enumerated and recovered from.

states.py says which states there are; store_life.py and folder_life.py are what a collector does to its folder, with
the promises that hold at each point; index_life.py is about the index, which is a view.
"""
