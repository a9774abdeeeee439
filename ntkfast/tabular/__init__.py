"""Tables of data: reading and writing them, the model of a table, its fit and its predictions."""
