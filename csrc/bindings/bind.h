#pragma once

#include <pybind11/pybind11.h>

namespace penstock {

/// One per room of the core.
void bind_base(pybind11::module_& module);
void bind_index(pybind11::module_& module);
void bind_order(pybind11::module_& module);
void bind_image(pybind11::module_& module);
void bind_color_changes(pybind11::module_& module);
void bind_python_images(pybind11::module_& module);
void bind_assemble(pybind11::module_& module);
void bind_files(pybind11::module_& module);
void bind_image_shards(pybind11::module_& module);
void bind_image_files(pybind11::module_& module);
void bind_array_images(pybind11::module_& module);
void bind_tokens(pybind11::module_& module);
void bind_loader(pybind11::module_& module);
void bind_samples(pybind11::module_& module);

}  // namespace penstock
