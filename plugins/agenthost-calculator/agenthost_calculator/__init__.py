"""An agent that computes arithmetic: tools, structured input and output, threads, and no network."""

from agenthost_calculator.calculator import Calculator, CalculatorSettings

__all__ = ["Calculator", "CalculatorSettings", "agent"]

agent = Calculator
