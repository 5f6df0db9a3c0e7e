"""What the side-by-side runs print."""

from __future__ import annotations


def report(title: str, rates: dict[str, float], references: list[str], unit: str = "files") -> None:
    """One line per contender: units/s, µs a unit, ratios to the references."""
    print(f"\n{title}")
    heads = "".join(f"  {'x ' + name:>26}" for name in references)
    print(f"{unit + '/s':>80}   us/{unit.removesuffix('s')}{heads}")
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        ratios = "".join(f"  {rate / rates[reference]:>26.2f}" for reference in references)
        print(f"  {name:66} {rate:>11,.0f} {1e6 / rate:>9.2f}{ratios}")


def print_promises(asked: list[tuple[str, float, str, float]]) -> None:
    """(what, figure, "at least" or "at most", what came)."""
    print("\nasked and got")
    for what, figure, direction, got in asked:
        kept = got >= figure if direction == "at least" else got <= figure
        print(f"  {what:86} {direction} {figure:>6g}: {got:>9.2f}  {'yes' if kept else 'NO'}")
