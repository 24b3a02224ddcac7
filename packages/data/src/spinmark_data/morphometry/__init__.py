"""Measures of bones, cartilage and menisci from a label map and its affine.

- `config`: what is measured and how, without heavy imports
- `joint`: a label map as a right knee in millimetres, and boxes around structures
- `surface`: a bone's surface as triangles, with areas and normals
- `thickness`: cartilage thickness at each point of a bone's surface, and the area it ought to cover
- `frame`: the directions of a knee, from its tibial plateau
- `regions`: subregions of femur, tibia and patella
- `meniscus`: how far a meniscus leaves the joint
- `knee`: all of these of one label map
- `shape`: principal components of bone shape, fitted on training subjects
- `shape_plan`: which modes of shape a cohort's knees are scored by: those that stand, or of a split
- `shape_scores`: shape scores beside the measures
- `shape_store`: modes of shape that stand in a cohort
- `table`: the table `morphometry` of a cohort and its dictionary
- `measure`: from the label maps of a cohort to its next generation
"""
