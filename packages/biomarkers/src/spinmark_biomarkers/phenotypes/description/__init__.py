"""What phenotypes are, in words that a clinician knows, by variables that they were not made of.

- `enrichment`: every variable of a phenotype against all other joints, or along a continuous axis,
  with intervals by subject, false discovery rates and adjustment.
- `effects`: the effect on one variable, its bounds and its p value.
- `overall`: how much of a variable all phenotypes explain between them.
- `variables`: which variables may be tested, in which form, and which are refused.
- `adjustment`: confounders as columns of a design.
- `regression`: linear and logistic models whose uncertainty comes from leaving subjects out.
- `contingency`: association with categories, with the clustering of joints in people taken out.
- `exchange`: permutations of whole subjects.
- `discovery_rate`: false discovery rates.
- `panel`: whether a phenotype is a site, a scanner, a side, a visit or the quality of a scan.
- `surrogate`: how well a clinician could guess the phenotype from the tables, and from what of
  them.
- `rules`: the same guess as a few rules in words.
- `profiles`: regional thickness and volumes of each phenotype.
- `members`: prototypes, random and boundary members, one a subject.
"""
