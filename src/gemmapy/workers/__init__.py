"""Several processes behind one port: workers that answer, a keeper that keeps the books, a supervisor over both.

With one worker nothing of this is loaded.
"""
