"""Compares the phantom's anatomy with real knees, by the same measures.

- `aligned`: a label map along the knee's own directions.
- `shapes`: extents, circles and grooves.
- `measures`: all measures of one knee.
- `population`: healthy knees of the phantom.
- `compare`: where real knees fall in the phantom's population.
- `picture`: both side by side.

`python -m spinmark_data.anatomy_report --real FILE FILE --out docs/concepts` writes table and picture.
"""
