#pragma once

#include <Python.h>
#include <unistd.h>

namespace penstock {

/// Releases the GIL as long as it lives. Like pybind11's, but safe when the interpreter exits meanwhile:
/// taking the GIL back then ends the thread by unwinding it (before Python 3.14), which must not
/// pass through C++ frames. The thread sleeps instead, until the process is gone.
class GilReleased {
 public:
  GilReleased() : state_(PyEval_SaveThread()) {}
  GilReleased(const GilReleased&) = delete;
  GilReleased& operator=(const GilReleased&) = delete;
  ~GilReleased() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      while (true) ::pause();
    }
  }

 private:
  PyThreadState* state_;
};

/// Holds the GIL as long as it lives, whatever thread it is on. \pre the interpreter does not end meanwhile
class GilHeld {
 public:
  GilHeld() : state_(PyGILState_Ensure()) {}
  GilHeld(const GilHeld&) = delete;
  GilHeld& operator=(const GilHeld&) = delete;
  ~GilHeld() { PyGILState_Release(state_); }

 private:
  PyGILState_STATE state_;
};

}  // namespace penstock
