#include <pybind11/pybind11.h>

#include "bindings/bind.h"

PYBIND11_MODULE(_core, module) {
  penstock::bind_base(module);
  penstock::bind_index(module);
  penstock::bind_order(module);
  penstock::bind_image(module);
  penstock::bind_color_changes(module);
  penstock::bind_python_images(module);
  penstock::bind_assemble(module);
  penstock::bind_files(module);
  penstock::bind_image_shards(module);
  penstock::bind_image_files(module);
  penstock::bind_array_images(module);
  penstock::bind_tokens(module);
  penstock::bind_loader(module);
  penstock::bind_samples(module);
}
