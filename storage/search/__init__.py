"""Search without a database: the query as a tree, its text keys, the folded text that they are compared with."""
