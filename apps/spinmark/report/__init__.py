"""The report: one HTML page that opens offline.

- `page`: sections, figures and tables, and how they become HTML (`template.html.j2`).
- `sections`: what each section shows; every figure comes from the package that knows the subject.
"""
