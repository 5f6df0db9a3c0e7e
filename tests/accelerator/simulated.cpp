// An accelerator without a device, for tests: its streams are threads, its memory is the host's.
//
// What can go wrong on a GPU goes wrong here, and sooner. Work on a stream is done later, after a delay that
// the test sets; memory that is freed goes at once to the next tensor of the stream it was allocated on,
// unless `record_stream` named another; pinned memory is torch's own CachingHostAllocator. Operations other
// than copies are torch's for the CPU, on what the current stream has done so far.

#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_local_scalar_dense_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_cpu_dispatch.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr c10::DeviceType kType = c10::DeviceType::PrivateUse1;
const c10::Device kDevice(kType, 0);

std::atomic<int> copy_delay_us = 0;

/// A stream's work, in order, on a thread of its own.
class Queue {
 public:
  Queue() {
    std::thread([this] { run(); }).detach();
  }

  void put(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    ++put_;
    changed_.notify_all();
  }

  void finish() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this, until = put_] { return done_ >= until; });
  }

  [[nodiscard]] bool is_idle() {
    const std::lock_guard lock(mutex_);
    return done_ == put_;
  }

 private:
  [[noreturn]] void run() {
    while (true) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !tasks_.empty(); });
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      lock.lock();
      ++done_;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::uint64_t put_ = 0;
  std::uint64_t done_ = 0;
};

/// All streams; the first is the default one. Never destroyed: their threads outlive main.
class Queues {
 public:
  c10::StreamId add() {
    const std::lock_guard lock(mutex_);
    queues_.push_back(new Queue);
    return static_cast<c10::StreamId>(queues_.size()) - 1;
  }

  Queue& of(const c10::Stream& stream) {
    const std::lock_guard lock(mutex_);
    return *queues_.at(static_cast<std::size_t>(stream.id()));
  }

  void finish() {
    std::unique_lock lock(mutex_);
    const std::vector<Queue*> all = queues_;
    lock.unlock();
    for (Queue* const each : all) each->finish();
  }

 private:
  std::mutex mutex_;
  std::vector<Queue*> queues_ = {new Queue};
};

Queues& queues() {
  static auto* const all = new Queues;
  return *all;
}

thread_local c10::StreamId current_stream = 0;

c10::Stream stream_of(c10::StreamId id) { return c10::Stream(c10::Stream::UNSAFE, kDevice, id); }

c10::Stream current() { return stream_of(current_stream); }

/// A point in a stream's work. Recording it again moves it.
class Event {
 public:
  void record(const c10::Stream& stream) {
    queues().of(stream).put([state = state_, version = ++recorded_] {
      const std::lock_guard lock(state->mutex);
      state->reached = std::max(state->reached, version);
      state->changed.notify_all();
    });
  }

  void block(const c10::Stream& stream) const {
    queues().of(stream).put([state = state_, version = recorded_] { state->wait(version); });
  }

  void synchronize() const { state_->wait(recorded_); }

  [[nodiscard]] bool is_reached() const {
    const std::lock_guard lock(state_->mutex);
    return state_->reached >= recorded_;
  }

 private:
  struct State {
    void wait(std::uint64_t version) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return reached >= version; });
    }

    std::mutex mutex;
    std::condition_variable changed;
    std::uint64_t reached = 0;
  };

  std::shared_ptr<State> state_ = std::make_shared<State>();
  std::uint64_t recorded_ = 0;
};

// --- memory ------------------------------------------------------------------------------------------

/// What a device's caching allocator does that a loader can get wrong: memory is reused in the order of its
/// stream, before the work that was asked of it is done; of other streams it knows what it is told.
class DeviceAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t size) override {
    const std::size_t rounded = std::max<std::size_t>(512, (size + 511) / 512 * 512);
    const std::lock_guard lock(mutex_);
    take_back();
    auto& free = free_[{current_stream, rounded}];
    Block* block = nullptr;
    if (free.empty()) {
      block = new Block{std::aligned_alloc(512, rounded), rounded, current_stream, {}, {}};
      std::memset(block->memory, 0xEE, rounded);
    } else {
      block = free.back();
      free.pop_back();
    }
    return {block->memory, block, [](void* context) { instance().free(static_cast<Block*>(context)); },
            kDevice};
  }

  void record(const c10::DataPtr& data, const c10::Stream& stream) {
    if (data.get_deleter() == nullptr || data.get_context() == nullptr) return;
    const std::lock_guard lock(mutex_);
    auto* const block = static_cast<Block*>(data.get_context());
    if (stream.id() != block->stream) block->used_by.insert(stream.id());
  }

  void copy_data(void* to, const void* from, std::size_t count) const override {
    std::memcpy(to, from, count);
  }

  static DeviceAllocator& instance() {
    static auto* const allocator = new DeviceAllocator;
    return *allocator;
  }

 private:
  struct Block {
    void* memory;
    std::size_t size;
    c10::StreamId stream;
    std::set<c10::StreamId> used_by;
    std::vector<Event> until;
  };

  void free(Block* block) {
    const std::lock_guard lock(mutex_);
    for (const c10::StreamId id : block->used_by) {
      block->until.emplace_back().record(stream_of(id));
    }
    block->used_by.clear();
    pending_.push_back(block);
  }

  /// Blocks whose other streams are done with them.
  void take_back() {
    std::vector<Block*> still;
    for (Block* const block : pending_) {
      if (!std::all_of(block->until.begin(), block->until.end(),
                       [](const Event& e) { return e.is_reached(); })) {
        still.push_back(block);
        continue;
      }
      block->until.clear();
      free_[{block->stream, block->size}].push_back(block);
    }
    pending_ = std::move(still);
  }

  std::mutex mutex_;
  std::map<std::pair<c10::StreamId, std::size_t>, std::vector<Block*>> free_;
  std::vector<Block*> pending_;
};

/// Which addresses are pinned memory.
class PinnedRanges {
 public:
  void add(const void* memory, std::size_t size) {
    const std::lock_guard lock(mutex_);
    ends_[static_cast<const char*>(memory)] = static_cast<const char*>(memory) + size;
  }

  void remove(const void* memory) {
    const std::lock_guard lock(mutex_);
    ends_.erase(static_cast<const char*>(memory));
  }

  [[nodiscard]] bool contains(const void* data) {
    const std::lock_guard lock(mutex_);
    const auto* const address = static_cast<const char*>(data);
    const auto next = ends_.upper_bound(address);
    return next != ends_.begin() && address < std::prev(next)->second;
  }

  static PinnedRanges& instance() {
    static auto* const ranges = new PinnedRanges;
    return *ranges;
  }

 private:
  std::mutex mutex_;
  std::map<const char*, const char*> ends_;
};

class PinnedMemory final : public at::CachingHostAllocatorImpl<c10::Stream, Event> {
  void allocate_host_memory(std::size_t size, void** memory) override {
    *memory = std::aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    TORCH_CHECK(*memory != nullptr, "no ", size, " bytes of pinned memory");
    PinnedRanges::instance().add(*memory, size);
  }
  void free_block(at::HostBlock<c10::Stream>* block) override {
    PinnedRanges::instance().remove(block->ptr_);
    std::free(block->ptr_);
  }
  void record_stream(std::optional<std::vector<Event>>& events, c10::Stream stream) override {
    events->emplace_back().record(stream);
  }
  bool query_event(Event& event) override { return event.is_reached(); }
  c10::Stream get_current_stream() const override { return current(); }
  bool stream_is_capturing(c10::Stream /*stream*/) const override { return false; }
};

void free_pinned(void* context);

at::CachingHostAllocatorInterface<PinnedMemory, free_pinned>& pinned_allocator() {
  static auto* const allocator = new at::CachingHostAllocatorInterface<PinnedMemory, free_pinned>;
  return *allocator;
}

void free_pinned(void* context) { pinned_allocator().free(context); }

// --- what torch asks ---------------------------------------------------------------------------------

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device /*device*/) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device /*device*/) const override {}
  void uncheckedSetDevice(c10::Device /*device*/) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }

  c10::Stream getStream(c10::Device /*device*/) const override { return current(); }
  c10::Stream getDefaultStream(c10::Device /*device*/) const override { return stream_of(0); }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool /*high*/) const override {
    return getNewStream(device, 0);
  }
  c10::Stream getNewStream(c10::Device /*device*/, int /*priority*/) const override {
    return stream_of(queues().add());
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return stream_of(std::exchange(current_stream, stream.id()));
  }
  bool queryStream(const c10::Stream& stream) const override { return queues().of(stream).is_idle(); }
  void synchronizeStream(const c10::Stream& stream) const override { queues().of(stream).finish(); }
  void synchronizeDevice(c10::DeviceIndex /*device*/) const override { queues().finish(); }

  void record(void** event, const c10::Stream& stream, c10::DeviceIndex /*device*/,
              c10::EventFlag /*flag*/) const override {
    if (*event == nullptr) *event = new Event;
    static_cast<Event*>(*event)->record(stream);
  }
  void block(void* event, const c10::Stream& stream) const override {
    if (event != nullptr) static_cast<Event*>(event)->block(stream);
  }
  bool queryEvent(void* event) const override {
    return event == nullptr || static_cast<Event*>(event)->is_reached();
  }
  void synchronizeEvent(void* event) const override {
    if (event != nullptr) static_cast<Event*>(event)->synchronize();
  }
  void destroyEvent(void* event, c10::DeviceIndex /*device*/) const noexcept override {
    delete static_cast<Event*>(event);
  }
  void recordDataPtrOnStream(const c10::DataPtr& data, const c10::Stream& stream) const override {
    DeviceAllocator::instance().record(data, stream);
  }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex /*device*/) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex /*device*/) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex /*device*/) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex /*device*/) const override { return 0; }
  bool isPinnedPtr(const void* data) const override { return PinnedRanges::instance().contains(data); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_allocator(); }
};

// --- operations --------------------------------------------------------------------------------------

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout> /*layout*/, std::optional<at::Device> /*device*/,
                 std::optional<bool> /*pin*/, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &DeviceAllocator::instance(),
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout> /*layout*/, std::optional<at::Device> /*device*/,
                         std::optional<bool> /*pin*/) {
  return at::detail::empty_strided_generic(size, stride, &DeviceAllocator::instance(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

/// The same memory, in a tensor that the CPU's operations take and that owns nothing.
at::Tensor on_host(const at::Tensor& tensor) {
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(),
                       tensor.options().device(at::kCPU));
}

at::Tensor copy(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  auto task = [source = on_host(from), target = on_host(to)] {
    std::this_thread::sleep_for(std::chrono::microseconds(copy_delay_us));
    const c10::InferenceMode mode;
    target.copy_(source);
  };
  Queue& queue = queues().of(current());
  queue.put(std::move(task));
  const at::Tensor& host = from.is_cpu() ? from : to;
  if (!host.is_cpu()) return to;
  const auto& memory = host.storage().data_ptr();
  const bool is_pinned =
      non_blocking && pinned_allocator().record_event(host.data_ptr(), memory.get_context(), current());
  if (!is_pinned) queue.finish();
  return to;
}

at::Tensor copy_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return copy(from, to, false);
}

at::Scalar local_scalar(const at::Tensor& tensor) {
  queues().of(current()).finish();
  return at::native::_local_scalar_dense_cpu(on_host(tensor));
}

void record_stream(at::Tensor& tensor, c10::Stream stream) {
  DeviceAllocator::instance().record(tensor.storage().data_ptr(), stream);
}

at::Tensor view(const at::Tensor& tensor, c10::SymIntArrayRef size) {
  return at::native::view(tensor, C10_AS_INTARRAYREF_SLOW(size));
}

at::Tensor reshape_alias(const at::Tensor& tensor, c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  return at::native::_reshape_alias(tensor, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}

at::Tensor as_strided(const at::Tensor& tensor, c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
                      std::optional<c10::SymInt> offset) {
  return at::cpu::as_strided_symint(tensor, size, stride, std::move(offset));
}

const at::Tensor& resize(const at::Tensor& tensor, c10::SymIntArrayRef size,
                         std::optional<at::MemoryFormat> format) {
  return at::native::resize_(tensor, C10_AS_INTARRAYREF_SLOW(size), format);
}

void on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) { at::native::cpu_fallback(op, stack); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", as_strided);
  m.impl("view", view);
  m.impl("_reshape_alias", reshape_alias);
  m.impl("resize_", resize);
  m.impl("_copy_from", copy);
  m.impl("_copy_from_and_resize", copy_and_resize);
  m.impl("_local_scalar_dense", local_scalar);
  m.impl("record_stream", record_stream);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>()); }

std::mutex gate_mutex;
std::condition_variable gate_changed;
bool is_gate_open = true;

}  // namespace

extern "C" {

void install() {
  static const Guard guard;
  static const c10::impl::DeviceGuardImplRegistrar registrar(kType, &guard);
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  at::setHostAllocator(kType, &pinned_allocator());
  c10::SetAllocator(kType, &DeviceAllocator::instance());
}

/// Every copy from now on begins so much later.
void set_copy_delay(int microseconds) { copy_delay_us = microseconds; }

/// The current stream does nothing else for so long.
void keep_busy(int microseconds) {
  queues().of(current()).put(
      [microseconds] { std::this_thread::sleep_for(std::chrono::microseconds(microseconds)); });
}

/// The current stream does nothing more until `open_gate`.
void close_gate() {
  const std::lock_guard lock(gate_mutex);
  is_gate_open = false;
  queues().of(current()).put([] {
    std::unique_lock until_open(gate_mutex);
    gate_changed.wait(until_open, [] { return is_gate_open; });
  });
}

void open_gate() {
  const std::lock_guard lock(gate_mutex);
  is_gate_open = true;
  gate_changed.notify_all();
}
}
