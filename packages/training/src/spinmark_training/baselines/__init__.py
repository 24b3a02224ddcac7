"""What an encoder must beat, as embeddings like its own.

- `voxels`: principal components of the voxels.
- `anatomy`: radiomics, shapes and intensities of labelled structures; `first_order` are the intensity features,
  `structures` takes them from a label map, `filling` fills what was not measured.
- `clinical`: the clinical teacher itself, which sees no image.
- `common`: what they share.
"""

from spinmark_training.baselines.anatomy import radiomics
from spinmark_training.baselines.clinical import teacher_embeddings
from spinmark_training.baselines.voxels import principal_axes, voxel_pca

__all__ = ["principal_axes", "radiomics", "teacher_embeddings", "voxel_pca"]
