"""A made-up knee cohort with known truth, written as a release would be.

- `state`: the values that describe one joint at one visit, one scanner and one grid.
- `anatomy`: bones, cartilage and soft tissue as implicit functions; the label codes.
- `disease`: where lesions lie and how large they are at a severity; `lesion_shapes`, `lesion_paint`: their
  shapes, and what of them is laid onto a scan.
- `regions`: the subregions that readers score; `regional_surface`, `regional_truth`: what is true of each.
- `moaks`: semi-quantitative scores with reader error; `moaks_table`: the tables of them.
- `signal`: tissue signals, scanners, coil bias, blur and Rician noise.
- `render`: a scan of a joint on any grid, with its truth.
- `dicom`: a volume as an extensionless MR DICOM series.
- `config`: the parameters of a phantom cohort.
- `population`: people and their knees at enrolment; `progression`: how the knees change.
- `clinic`: symptoms, examination and radiographic grades from the same latents.
- `posterior`, `ideal_reader`, `ceiling`: what a perfect method could reach.
- `bounds`: numbers that cannot be, refused by name.
- `outcomes`: replacement, death, dropout and contacts, with the true hazards.
- `sheets`, `release_tables`, `outcome_table`: the tables of the release, quirks included.
- `images`: which scans are made, on which machine, and their rendering in parallel.
- `write`: the whole of it: `write_phantom(config, out)`.
"""
