"""Judges a replay's report: every failed scenario must be a known difference, and every known difference must still fail."""

import json
import sys

report, known_file = sys.argv[1:]
with open(report, encoding="utf-8") as file:
    scenarios = json.load(file)["scenarios"]
with open(known_file, encoding="utf-8") as file:
    known = {line.split()[0] for line in file if line.strip() and not line.startswith("#")}

failed = {name for name, result in scenarios.items() if not result["passed"]}
surprises = sorted(failed - known)
mended = sorted(known & (scenarios.keys() - failed))
for name in surprises:
    print(f"conformance: {name} fails and is no known difference")
for name in mended:
    print(f"conformance: {name} passes; take it out of {known_file}")
print(f"conformance: {len(scenarios) - len(failed)} of {len(scenarios)} scenarios pass, {len(failed & known)} known differences")
sys.exit(1 if surprises or mended else 0)
