from contextlib import contextmanager
MUTATIONS={}
@contextmanager
def mutated(name):
    yield frozenset([name]) if name else frozenset()
