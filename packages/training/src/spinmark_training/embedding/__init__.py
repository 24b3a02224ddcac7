"""From scans to vectors, in pieces that workers share and that outlive a kill.

- `windows`: where windows lie in a volume, and how much each counts.
- `vectors`: one encoder over some scans: plain, in windows, in random views.
- `pieces`: the files that work in progress is kept in.
- `plan`: which encoder embeds which scans, cut into pieces.
- `work`: the pieces, done by one process or several.
- `crossfitted`: the spaces of several encoders become one.
- `table`: vectors labelled as the schema of embeddings asks.

`spinmark_training.embed` puts them together.
"""
