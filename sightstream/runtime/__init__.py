"""What our processes run on: Java, Spark, and Spark's Python workers."""
