#include "image/pipeline.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "base/error.h"
#include "image/colors.h"
#include "image/open_image.h"
#include "image/orient.h"

namespace penstock {
namespace {

constexpr std::int32_t kStripRows =
    16;  ///< decoded and resized at a time: even, and what most JPEGs are decoded by

constexpr std::int64_t kMostKept = std::int64_t{64} << 20U;  ///< bytes of each buffer between images

Rect require_inside(const Rect& part, std::int32_t width, std::int32_t height) {
  if (is_inside(part, width, height)) return part;
  throw Error(ErrorKind::kArgument, "the crop is empty or not inside the image")
      .needed("a part of " + size_text(width, height))
      .found(size_text(part.width, part.height) + " at " + std::to_string(part.x) + ", " +
             std::to_string(part.y));
}

/// An image on its way: which part of the upright image, at which size, becomes what.
struct Route {
  Rect crop;
  ResizePlan resize;
  std::int32_t shrink = 1;
};

std::int32_t ceil_divide(std::int32_t a, std::int32_t b) noexcept { return (a + b - 1) / b; }

/// The largest of 8, 4, 2 and 1 that leaves the crop no smaller than the result.
std::int32_t shrink_for(const Rect& crop, ImagePlan::Size size) noexcept {
  const std::int32_t room = std::min(crop.width / size.width, crop.height / size.height);
  std::int32_t shrink = 8;
  while (shrink > 1 && shrink > room) shrink /= 2;
  return shrink;
}

ResizePlan resize_plan(const Rect& crop, const ImagePlan& plan, const ImageOptions& options) {
  ResizePlan resize;
  resize.in_width = crop.width;
  resize.in_height = crop.height;
  resize.box = {0, 0, static_cast<float>(crop.width), static_cast<float>(crop.height)};
  resize.out_width = plan.resize ? plan.resize->width : crop.width;
  resize.out_height = plan.resize ? plan.resize->height : crop.height;
  resize.window = plan.window.value_or(Rect{0, 0, resize.out_width, resize.out_height});
  resize.filter = options.filter;
  resize.rule = options.rule;
  return resize;
}

/// The same resize of an image that is decoded at a fraction of its size.
void shrink_route(Route& route, ImagePlan::Size image) noexcept {
  const auto shrink = static_cast<float>(route.shrink);
  const Rect& crop = route.crop;
  const std::int32_t width = ceil_divide(image.width, route.shrink);
  const std::int32_t height = ceil_divide(image.height, route.shrink);
  const std::int32_t left = crop.x / route.shrink;
  const std::int32_t top = crop.y / route.shrink;
  const std::int32_t right = std::min(ceil_divide(crop.x + crop.width, route.shrink), width);
  const std::int32_t bottom = std::min(ceil_divide(crop.y + crop.height, route.shrink), height);
  route.resize.in_width = right - left;
  route.resize.in_height = bottom - top;
  route.resize.box = {static_cast<float>(crop.x) / shrink - static_cast<float>(left),
                      static_cast<float>(crop.y) / shrink - static_cast<float>(top),
                      static_cast<float>(crop.x + crop.width) / shrink - static_cast<float>(left),
                      static_cast<float>(crop.y + crop.height) / shrink - static_cast<float>(top)};
  route.crop = {left, top, right - left, bottom - top};
}

Route route_of(const ImageInfo& info, const ImagePlan& plan, const ImageOptions& options) {
  const ImagePlan::Size image = upright_size(info);
  Route route;
  route.crop =
      require_inside(plan.crop.value_or(Rect{0, 0, image.width, image.height}), image.width, image.height);
  route.resize = resize_plan(route.crop, plan, options);
  check_resize(route.resize);
  const bool may_shrink =
      options.exactness == Exactness::kFast && plan.resize && info.format == ImageFormat::kJpeg;
  if (may_shrink) route.shrink = shrink_for(route.crop, *plan.resize);
  if (route.shrink > 1) shrink_route(route, image);
  return route;
}

bool is_copy(const ResizePlan& plan) noexcept {
  return plan.in_width == plan.out_width && plan.in_height == plan.out_height && plan.box.left == 0 &&
         plan.box.top == 0 && plan.box.right == static_cast<float>(plan.out_width) &&
         plan.box.bottom == static_cast<float>(plan.out_height);
}

/// What of the decoded (upright) image the result needs.
Rect needed_part(const Route& route, ResizeScratch& scratch) {
  if (is_copy(route.resize)) return route.resize.window;
  return resize_needs(route.resize, scratch);
}

/// Where that part of the crop is in the stored image.
Rect stored_rect(const ImageInfo& info, const Route& route, const Rect& needed) noexcept {
  const Rect part{route.crop.x + needed.x, route.crop.y + needed.y, needed.width, needed.height};
  return stored_part(part, info.orientation, ceil_divide(info.width, route.shrink),
                     ceil_divide(info.height, route.shrink));
}

PreparedImage prepare_in_strips(Decoder& image, const Route& route, const Rect& needed,
                                ImageScratch& scratch) {
  const ImageInfo& info = image.info();
  const bool is_seen_through = info.has_alpha;
  StripResize strips(route.resize, info.type, scratch.resized, scratch.resize, best_instructions());
  const DecodeReport report = image.decode(stored_rect(info, route, needed), route.shrink, kStripRows,
                                           scratch.stored, [&](const PixelView& strip) {
                                             if (is_seen_through) premultiply(strip);
                                             strips.add(strip);
                                           });
  const PixelView resized = strips.finish();
  if (is_seen_through) unpremultiply(resized);
  return {resized, report};
}

PreparedImage prepare_whole(Decoder& image, const Route& route, const Rect& needed, ImageScratch& scratch) {
  const ImageInfo& info = image.info();
  const Rect stored = stored_rect(info, route, needed);
  PixelView pixels;
  const DecodeReport report = image.decode(stored, route.shrink, stored.height, scratch.stored,
                                           [&](const PixelView& all) { pixels = all; });
  pixels = upright(pixels, info.orientation, scratch.upright);
  if (is_copy(route.resize)) return {pixels, report};
  if (info.has_alpha) premultiply(pixels);
  pixels =
      resize(route.resize, pixels, needed.x, needed.y, scratch.resized, scratch.resize, best_instructions());
  if (info.has_alpha) unpremultiply(pixels);
  return {pixels, report};
}

}  // namespace

ImageScratch& thread_image_scratch() {
  thread_local ImageScratch scratch;
  return scratch;
}

ImagePlan::Size upright_size(const ImageInfo& info) noexcept {
  if (swaps_sides(info.orientation)) return {info.height, info.width};
  return {info.width, info.height};
}

ImagePipeline::ImagePipeline(const ImageOptions& options, FinishPlan finish)
    : options_(options), finisher_(std::move(finish)) {
  if (finisher_.plan().sample_bytes == options.decode.sample_bytes) return;
  throw Error(ErrorKind::kArgument, "the samples are decoded and finished at different sizes");
}

std::unique_ptr<Decoder> ImagePipeline::open(Bytes bytes) const {
  return open_image(bytes, options_.decode, options_.other);
}

PreparedImage ImagePipeline::prepare(Decoder& image, const ImagePlan& plan, ImageScratch& scratch) const {
  for (PixelBuffer* buffer : {&scratch.stored, &scratch.upright, &scratch.resized, &scratch.resize.between}) {
    buffer->shrink(kMostKept);
  }
  const Route route = route_of(image.info(), plan, options_);
  const Rect needed = needed_part(route, scratch.resize);
  const bool in_strips =
      image.info().orientation == 1 && !is_copy(route.resize) && comes_in_strips(route.resize);
  return in_strips ? prepare_in_strips(image, route, needed, scratch)
                   : prepare_whole(image, route, needed, scratch);
}

void ImagePipeline::finish(const PreparedImage& image, const ImagePlan& plan, const FinishTarget& out) const {
  const PixelView& pixels = image.pixels;
  if (pixels.type.channels != 1 && pixels.type.channels != finisher_.plan().channels) {
    throw Error(ErrorKind::kSchema, "the image has another number of channels")
        .needed(std::to_string(finisher_.plan().channels))
        .found(std::to_string(pixels.type.channels));
  }
  finisher_.run(pixels, plan.flip_horizontally, plan.flip_vertically, out, best_instructions());
}

void ImagePipeline::finish(const PreparedImage& image, const ImagePlan& plan,
                           std::span<std::byte> out) const {
  const PixelView& pixels = image.pixels;
  const std::int64_t bytes = finisher_.bytes(pixels.width, pixels.height);
  if (static_cast<std::int64_t>(out.size()) != bytes) {
    throw Error(ErrorKind::kSchema, "the image does not fit where it shall go")
        .needed(std::to_string(out.size()) + " bytes")
        .found(std::to_string(bytes) + " (" + size_text(pixels.width, pixels.height) + " pixels)");
  }
  finish(image, plan, finisher_.packed(out.data(), pixels.width, pixels.height));
}

}  // namespace penstock
