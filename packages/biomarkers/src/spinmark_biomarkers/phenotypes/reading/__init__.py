"""A reader study of phenotypes: blind sheets, forms, and what completed forms say.

- `config`: how sheets are made and scored; imports nothing heavy.
- `codes`: random letters under which sheets and items stand.
- `oddone`: items of which one joint is of another phenotype, with controls and repeats.
- `plan`: which joint stands where; the whole study, before any image is read.
- `key`: the answer key on disk, with a hash that tells a changed one.
- `forms`: what is asked, and blank forms.
- `readings`: completed forms, read strictly.
- `accuracy`: shares of right answers with intervals for readers crossed with items.
- `alike`: how often readers name alike.
- `metrics`: accuracy, consistency, agreement and suspicions as rows.
- `scoring`: all scores as one tidy table, and one row a phenotype.
"""
