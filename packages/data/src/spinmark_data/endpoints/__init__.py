"""What counts: endpoints of joints with eligibility, intervals and competing events.

- `config`: each definition as a dataclass, with its source.
- `registry`: definitions by name, as a YAML file gives them.
- `readings`: what was read of each joint, day by day.
- `assess`: eligibility and, reading by reading, whether the endpoint was met.
- `intervals`: from readings to `(lower, upper]`, and what replacement and death do to it.
- `build`: the `outcomes` rows of a cohort.
"""
