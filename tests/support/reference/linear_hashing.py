"""Tables that grow by linear hashing, as sets, after Litwin (1980)."""


class Tables:
    """Tables that take turns in splitting a bucket.

    Args:
        tables: Integer T.
    """

    def __init__(self, tables):
        # What is in each bucket of each table, and its code there.
        self.tables = [[{}] for _ in range(tables)]
        # Splits so far, and the bucket that each table splits next.
        self.splits = 0
        self.next = [0] * tables

    def split(self):
        """The table whose turn it is splits its next bucket."""
        number = self.splits % len(self.tables)
        table = self.tables[number]
        # Each round doubles the buckets that it began with.
        begun = 1
        while 2 * begun <= len(table):
            begun *= 2
        bucket = table[self.next[number]]
        moved = {k: c for k, c in bucket.items() if c // begun % 2}
        for key in moved:
            del bucket[key]
        table.append(moved)
        is_last = self.next[number] + 1 == begun
        self.next[number] = 0 if is_last else self.next[number] + 1
        self.splits += 1

    def put(self, key, codes):
        """Puts a key where its codes, one for each table, belong."""
        for number, (table, code) in enumerate(zip(self.tables, codes, strict=True)):
            for bucket in table:
                bucket.pop(key, None)
            table[self._bucket(number, code)][key] = code

    def _bucket(self, number, code):
        begun = 1
        while 2 * begun <= len(self.tables[number]):
            begun *= 2
        bucket = code % begun
        # What has been split in this round has twice as many.
        return code % (2 * begun) if bucket < self.next[number] else bucket
