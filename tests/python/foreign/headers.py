"""Headers as writers of .npy files other than this numpy emit them, written down by hand in each one's manner.

WRITERS: (who, version, text, alignment). The text stands as it is, with {} for nothing; where alignment is a number the
header is filled with spaces to it, the last byte a newline; a text that ends in a newline already is left alone. Every
array has six elements.
"""

WRITERS = [
    ("numpy 1.14 and later", 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }", 64),
    ("numpy up to 1.13", 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (6,), }", 16),
    ("numpy on Python 2, long integers", 1, "{'descr': '<i8', 'fortran_order': False, 'shape': (2L, 3L), }", 16),
    ("Python 2 by repr of unicode keys", 1, "{u'descr': u'<i4', u'fortran_order': True, u'shape': (2, 3)}", 16),
    ("numpy, named columns", 1, "{'descr': [('x', '<f4'), ('v', '<i2', (3,))], 'fortran_order': False, 'shape': (6,), }",
     64),
    ("numpy, aligned struct", 1,
     "{'descr': [('a', '|i1'), ('', '|V7'), ('b', '<f8')], 'fortran_order': False, 'shape': (6,), }", 64),
    ("numpy, names beyond Latin-1", 3, "{'descr': [('\u6570', '<f8')], 'fortran_order': False, 'shape': (6,), }", 64),
    ("cnpy (C++)", 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 16),
    ("libnpy (C++)", 1, "{'descr': '<c16', 'fortran_order': True, 'shape': (2, 3), }", 16),
    ("xtensor (C++)", 1, "{'descr': '|u1', 'fortran_order': False, 'shape': (6, ), }", 64),
    ("C++ by hand, no order sign", 1, "{'descr': 'f8', 'fortran_order': False, 'shape': (2, 3), }", 64),
    ("C++ by hand, wrong bar", 1, "{'descr': '|i4', 'fortran_order': False, 'shape': (2, 3), }", 16),
    ("C++ by typeid, one letter", 1, "{'descr': 'd', 'fortran_order': False, 'shape': (2, 3), }", 64),
    ("C by sprintf, fixed width", 1, "{'descr': '<i8', 'fortran_order': False, 'shape': (2, 3), }" + " " * 58 + "\n", 0),
    ("ndarray-npy (Rust)", 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }", 64),
    ("npyz (Rust)", 1, "{'descr': [('a', '<f8'), ('b', '<i4'), ], 'fortran_order': False, 'shape': (6, ), }", 64),
    ("Rust by hand, comma after the last", 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,3,), }", 64),
    ("NPZ.jl (Julia)", 1, "{'descr': '<f8', 'fortran_order': True, 'shape': (2,3,), }", 16),
    ("npy-matlab", 1, "{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3), }", 16),
    ("gonpy (Go)", 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (6,)}", 16),
    ("npyio (Go)", 1, "{'descr': '<u4', 'fortran_order': False, 'shape': (2, 3, ), }", 16),
    ("swift-npy", 1, "{'descr': '>i4', 'fortran_order': False, 'shape': (2, 3, ), }", 16),
    ("NumSharp (C#)", 1, "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }", 16),
    ("Java, big-endian as its buffers are", 1, "{'descr': '>f8', 'fortran_order': False, 'shape': (2,3)}", 16),
    ("Scala by hand", 1, "{'descr': '>f4', 'fortran_order': False, 'shape': (6,), }", 16),
    ("TypeScript by hand, short words", 1, "{'descr': 'i2', 'fortran_order': False, 'shape': (2, 3), }", 16),
    ("TypeScript by hand, bytes", 1, "{'descr': 'B', 'fortran_order': False, 'shape': (6,), }", 64),
    ("Nim by hand", 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}", 64),
    ("Python by json and hand", 1, "{\"descr\": \"uint8\", \"fortran_order\": False, \"shape\": (2, 3)}", 16),
    ("PostgreSQL extension, gzip'ed stream", 1, "{'descr': '<i8', 'fortran_order': False, 'shape': (6,), }", 64),
    ("R by RcppCNPy", 1, "{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3), }", 16),
    ("unaligned, without a newline", 1, "{'descr': '<i2', 'fortran_order': False, 'shape': (6,), } ", 0),
    ("keys in another order, tight", 2, "{'shape':(6,),'fortran_order':False,'descr':'<M8[ms]'}", 64),
]

# What numpy.load refuses, or would read as something else, and what is said of it.
REFUSED = [
    ("a shape that is a number", 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (6), }", 64, "(6,)"),
    ("a shape in a list", 1, "{'descr': '<f8', 'fortran_order': False, 'shape': [6], }", 64, "expected a shape"),
    ("JSON", 1, "{\"descr\": \"<f8\", \"fortran_order\": false, \"shape\": (6,)}", 64, "True or False"),
    ("a name twice", 1, "{'descr': [('a', '<f4'), ('a', '<f4')], 'fortran_order': False, 'shape': (6,), }", 64,
     "occurs twice"),
    ("objects", 1, "{'descr': '|O', 'fortran_order': False, 'shape': (6,), }", 64, "Python pointers"),
    ("no such type", 1, "{'descr': '<f7', 'fortran_order': False, 'shape': (6,), }", 64, "unknown dtype: '<f7'"),
]
